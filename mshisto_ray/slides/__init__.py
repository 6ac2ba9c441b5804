"""Family of slide readers: ``build(path) -> Slide``."""
