"""The parts of the renderer: axes, colour scales, marks, panels, legend, canvas."""
