"""Views of power laws through depth, shared by activations and gradients."""
