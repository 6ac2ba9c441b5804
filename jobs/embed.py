from mshisto_ray.config import main
from mshisto_ray.jobs.embed import EmbedConfig, check, inspect, run

if __name__ == "__main__":
    main(EmbedConfig, run, check, inspect=inspect)
