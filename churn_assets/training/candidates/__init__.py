"""The recipes: each module has `Params` and `fit`, and imports the one library it needs."""
