"""The caption collection on disk: manifest, caption store, FAISS index; opened, searched, built."""
