"""Networks of the recipes.

- ``model`` builds them, with ``zoom`` in front where a recipe asks for it.
- ``views`` takes the views of a fused image apart.
- ``layers`` lists the layers of a network, for figures.
"""
