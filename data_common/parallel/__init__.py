"""Several workers for one call: processes here, and processes that torchrun or a scheduler started."""
