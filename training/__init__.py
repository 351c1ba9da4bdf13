"""How `models/mini` and `index_data/default` were made: from packages and data to the files."""
