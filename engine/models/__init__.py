"""Open a model safely; one small adapter for each architecture family; twins and checkpoints.

Nothing is imported here: ``engine.models.info`` is light and safe for the window, the rest brings torch.
"""
