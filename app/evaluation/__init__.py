"""Evidence: whether retrieval helps, by how much, at which K, on anyone's labelled images."""
