"""Tuning a recipe: a space of settings, a search that learns from earlier searches, and trials that survive a kill."""
