"""Recipes: what openpi trains, and what we think right for other robots, as functions.

Each returns a `Recipe`; every field of it may be changed, on the command line too.
"""

from pioxide.train.recipes.openpi import OPENPI
from pioxide.train.recipes.own import OWN
from pioxide.train.recipes.recipe import Data, Recipe
from pioxide.train.recipes.robots import RobotData, is_robots_file, read_robots

RECIPES = {**OWN, **OPENPI}

__all__ = ["RECIPES", "Data", "Recipe", "RobotData", "is_robots_file", "read_robots"]
