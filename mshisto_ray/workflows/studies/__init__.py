"""Family of published studies: ``build(data, *, ...)`` gives a study to run again."""
