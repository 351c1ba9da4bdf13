"""Caption collections in Milvus, a server or its embedded engine: loaded, opened, searched."""
