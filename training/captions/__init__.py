"""The caption collection's hand-written vocabulary and the generator that makes captions of it."""
