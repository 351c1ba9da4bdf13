"""X-MoRe (arXiv 2308.15273) as pure functions on arrays.

Step 1, `retrieval`: captions for an image from an external image-text collection.
Step 2, `ensemble`: the image's vote and the captions' vote, weighted by their confidence.
"""
