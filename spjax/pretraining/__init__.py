"""Pre-training and LM adaptation: the recipe, span corruption, data, the loop."""
