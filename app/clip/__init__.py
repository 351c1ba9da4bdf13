"""The CLIP model behind two calls: images to embeddings, texts to embeddings."""
