#!/bin/sh
# Make the folders of the study's tasks, in an empty folder OUT, from DATA: slides/, tiles/,
# tiles_lung/ and weights/ as in docs/results/studies.md.
#   sh make.sh DATA OUT
set -eu
data=$(realpath "$1") here=$(realpath "$(dirname "$0")")
mkdir -p "$2" && cd "$2"
mkdir -p lymph lymphoid node phantom sign relation lung organ others

# Slides: one lymph node slide (its 1 um/px is nominal), two cohorts of phantoms, tiles as slides.
python - "$data" <<'PYTHON'
import csv, sys
from pathlib import Path
import pandas as pd
from xml.etree import ElementTree
from mshisto_ray.phantom.config import PhantomConfig
from mshisto_ray.phantom.write import truth, write_cohort

data = Path(sys.argv[1])
slides = data / "slides"
pd.DataFrame([{
    "path": slides / "lymphnode_HE_half.tiff", "slide_id": "lymph", "mpp": 1.0,
    "annotation": slides / "lymphnode_HE_half.xml",
}]).to_csv("lymph/cohort.csv", index=False)
phantoms = [PhantomConfig(num_patients=n, slides_per_patient=1, size=2048, seed=s)
            for n, s in ((24, 0), (16, 1))]
for config, folder in zip(phantoms, ("phantom", "others/phantom")):
    write_cohort(config, Path(folder))
# 17 tiles a slide without a sign are outlined, as many as have one in a slide with signs.
for slide in range(phantoms[0].num_slides):
    found = truth(phantoms[0], slide)
    found = found[(found.mpp == 0.5) & (found.tissue >= 0.97)]
    found = found[~found.fine_sign & ~found.relation_sign].sample(17, random_state=slide)
    file = Path(f"phantom/annotations/slide_{slide:04d}.xml")
    tree = ElementTree.parse(file)
    for row, col in zip(found.row, found.col):
        tile = ElementTree.SubElement(tree.find("Annotations"), "Annotation", Name=f"none {row} {col}",
                                      Type="Polygon", PartOfGroup="none", Color="#808080")
        corners = ElementTree.SubElement(tile, "Coordinates")
        for order, (x, y) in enumerate(((0, 0), (1, 0), (1, 1), (0, 1))):
            ElementTree.SubElement(corners, "Coordinate", Order=str(order),
                                   X=str((col + x) * 64), Y=str((row + y) * 64))
    tree.write(file, encoding="utf-8", xml_declaration=True)
# To pretrain on: phantoms of other patients, and slides of no task but organ.
table = pd.read_csv("others/phantom/cohort.csv")[["slide_id", "patient_id", "path"]]
table["slide_id"] = table["patient_id"] = "other_" + table["slide_id"]
table["path"] = [str(Path("others/phantom").resolve() / p) for p in table["path"]]
names = {"crohn_HE4_20x.tiff": None, "hpylori_HE_20x_nompp.tiff": 0.5, "pdac_trucut_HE3.svs": None}
real = pd.DataFrame([
    {"slide_id": n.split("_")[0], "patient_id": n.split("_")[0], "path": slides / n, "mpp": m}
    for n, m in names.items()])
pd.concat([table, real]).to_csv("others/cohort.csv", index=False)
lung = [{
    "path": p, "slide_id": p.stem, "patient_id": p.stem.split("_")[-1],
    "label": p.parent.name, "fold": p.parts[-3], "mpp": 0.5,
} for p in sorted((data / "tiles_lung").glob("*/*/*.jpg"))]
pd.DataFrame(lung).to_csv("lung/cohort.csv", index=False)
organ = pd.read_csv(data / "tiles" / "labels.tsv", sep="\t")
pd.DataFrame({
    "path": [data / "tiles" / "images" / f for f in organ.file],
    "slide_id": [f"organ_{i:03d}" for i in range(len(organ))],
    "patient_id": organ.block, "label": organ.label, "mpp": 0.5,
}).to_csv("organ/cohort.csv", index=False)
PYTHON

# Tiles. A low tissue threshold keeps fat, of which stains show little.
small="focus_mpp=null"
mshisto tile cohort=lymph/cohort.csv out=lymph/tiles scales=[2.0,8.0] tile_px=128 \
    tissue_threshold=0.02 $small
mshisto tile cohort=phantom/cohort.csv out=phantom/tiles scales=[0.5,2.0] tile_px=64 \
    tissue='{name: annotation, groups: [none, fine_sign, relation_sign]}' $small
mshisto tile cohort=others/cohort.csv out=others/tiles scales=[0.5,1.0,2.0] tile_px=64 $small
for task in lung organ; do
    mshisto tile cohort=$task/cohort.csv out=$task/tiles scales=[0.5] tile_px=256 \
        tissue_threshold=1e-6 $small
done

# Encoders.
net="model: mobilenetv2_100, num_classes: 1001, pad_type: same, mean: [.5, .5, .5], std: [.5, .5, .5]"
weights=$data/weights/mobilenetv2_100_imagenet_fp16.safetensors
mshisto pretrain tiles=others/tiles out=pretrained model.backbone=resnet10t steps=400 \
    pairs='{name: multi_scale, same_slide: by_distance, far_um: 600, places_per_slide: 1,
            slides_per_batch: 1}' validation='{share: 0.2, every: 100, near_um: 150, far_um: 600}'
for task in lymph phantom lung organ; do
    mshisto embed tiles=$task/tiles out=$task/embeddings encoders="{
        mobilenetv2: {name: timm, $net, weights: $weights},
        random: {name: timm, $net, weights: random},
        pretrained: {name: checkpoint, path: pretrained/encoder},
        untrained: {name: timm, model: resnet10t, weights: random},
        gleason: {name: gleason_mobilenet, weights: $data/weights/gleason_mobilenet_half.onnx},
        colour: {name: colour_stats}}"
done

# Classes. Blocks are 4 x 4 tiles: as large as a tile of the context, so that none is shared.
python - "$data" <<'PYTHON'
import sys
from pathlib import Path
import pandas as pd
import pyarrow.parquet as pq

def planned(folder, mpp):
    parts = [pq.read_table(f).to_pandas() for f in sorted(Path(folder).glob("tiles/shards/*.parquet"))]
    table = pd.concat(parts)
    return table[table.own & (table.mpp == mpp)].sort_values(["slide_id", "row", "col"])

lymph = planned("lymph", 2.0)
lymph["block"] = [f"{r // 4}_{c // 4}" for r, c in zip(lymph.row, lymph.col)]
shared = pd.read_csv(Path(sys.argv[1]) / "tiles" / "labels.tsv", sep="\t")
shared = shared[shared.slide == "lymphnode_HE_half.tiff"]
shared = pd.DataFrame({"row": shared.y // 256, "col": shared.x // 256, "label": shared.label})
lymph[["slide_id", "row", "col", "block"]].merge(shared).to_csv("lymphoid/labels.csv", index=False)
node = lymph[lymph.tissue >= 0.5]
inside = node.annotation.notna() & (node.annotated >= 0.5)
node = node.assign(label=inside.map({True: "node", False: "outside"}))
node[["slide_id", "row", "col", "label", "block"]].to_csv("node/labels.csv", index=False)

phantom = planned("phantom", 0.5)
none = phantom[phantom.annotation == "none"]
sign = phantom[phantom.annotation == "fine_sign"]
pd.concat([none.assign(label="none"), sign.assign(label="sign")])[
    ["slide_id", "row", "col", "label"]].to_csv("sign/labels.csv", index=False)
# The same sign lies in cells of context A in positive slides, of B in the others.
cohort = pd.read_csv("phantom/cohort.csv").set_index("slide_id").label_relation
related = phantom[phantom.annotation == "relation_sign"]
related = related.assign(label=related.slide_id.map(cohort).map(
    {"positive": "in_a", "negative": "in_b"}))
related[["slide_id", "row", "col", "label"]].to_csv("relation/labels.csv", index=False)
PYTHON

# Tasks. Folds and first weights are drawn three times.
for task in node lymphoid; do
    cat >$task/task.yaml <<YAML
folder: lymph
scale: 2.0
context: 8.0
target: {group: block}
split: {folds: 3, repeats: 3, validation: 0.2}
YAML
done
for task in sign relation; do
    cat >$task/task.yaml <<YAML
folder: phantom
scale: 0.5
context: 2.0
split: {folds: 3, repeats: 3, validation: 0.2}
YAML
done
cat >lung/task.yaml <<YAML
scale: 0.5
split: {repeats: 3, validation: 0}
YAML
cat >organ/task.yaml <<YAML
scale: 0.5
split: {folds: 3, repeats: 3, validation: 0.2}
YAML
cat >finetune.yaml <<YAML
model:
  backbone: mobilenetv2_100
  options: {num_classes: 1001, pad_type: same}
  weights: $weights
  norm: frozen
mean: [0.5, 0.5, 0.5]
std: [0.5, 0.5, 0.5]
gamma: 2
optimiser: {name: adam, lr: 3e-4, weight_decay: 0}
batch_size: 16
steps: 60
best: val_balanced_accuracy
validation: {every: 30}
augment: {flips: true, zoom: 0.1, shear: 10}
YAML
