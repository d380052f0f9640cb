"""The task file of the tests of evaluate."""

TASK = """
name: dr-grade
title: Grade of diabetic retinopathy
label: dr_grade
classes: {none: [0], mild: [1], severe: [2]}
split: {train: 0.5, val: 0.25, test: 0.25}
subgroups: [age, sex, ethnicity]
"""
