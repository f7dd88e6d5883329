"""Datasets: recorded episodes, their files, and where they come from.

arrays             names, axes, dtypes and sizes of a dataset's arrays, and their fingerprint
episode_data       EpisodeData: recorded episodes in memory, and the checks of their content
formats            reads every layout of files, and writes this project's
recorder           collects the rows of episodes while they are played
rollout            plays episodes of a policy on a vector environment
recording          records PettingZoo's and Gymnasium's environments
builtin_datasets   makes the datasets of matrix games, Bridge, and SMAX
catalogue          finds the dataset that a setting names, and makes built-in ones
tools              the commands of src/dataset.py: list, inspect, convert, mix, fetch, ...
"""
