from mshisto_ray.config import main
from mshisto_ray.jobs.tile import TileConfig, check, inspect, run

if __name__ == "__main__":
    main(TileConfig, run, check, inspect=inspect)
