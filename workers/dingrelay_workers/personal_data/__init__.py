"""The data kept of one person, in every place: exported, and erased once it is needed no more."""
