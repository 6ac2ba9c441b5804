"""The functions to use from Python; ``mshisto_ray`` itself offers them."""
