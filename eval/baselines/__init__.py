"""What others made: networks of other projects, each opened where its package is, and where their weights come from."""
