from mshisto_ray.config import main
from mshisto_ray.jobs.finetune import FinetuneJobConfig, check, run

if __name__ == "__main__":
    main(FinetuneJobConfig, run, check)
