"""One call of a stage: words, keys and configuration, help, launch, progress."""
