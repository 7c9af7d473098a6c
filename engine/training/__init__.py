"""The training job: the fine-tuning of a study, and what made the built-in models."""
