"""The parts of the page that `app.py` puts together. Nothing here runs a network by itself: pipeline/ does."""
