"""The Hugging Face hub: data sets, models, and whether it can be reached."""
