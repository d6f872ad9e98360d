# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Fair training on real mortgage decisions
#
# 1,989 applications in Boston, 1990 (Hunter & Walker, 1996). Who was approved, and what does a
# model make of it?

# %%
import warnings

import pandas as pd
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fairtrain import DemographicParity, ReductionsWrapper, fairness_report, gap, group_rates
from fairtrain.datasets import load_loanapp
from fairtrain.exceptions import ConstraintNotMetWarning

loans = load_loanapp(lender_judgements=False)  # without the lender's own verdicts on the file
race = loans.sensitive_features["race"]
pd.DataFrame({"applications": race.value_counts(), "approved": loans.y.groupby(race).mean()})

# %% [markdown]
# ## Ordinary training
#
# Race is no feature. The model amplifies the difference all the same. Half of the rows are kept
# away from everything that follows, to judge with.

# %%
held_out = race.index % 2 == 1
plain = make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000))
plain.fit(loans.X[~held_out], loans.y[~held_out])
decided = plain.predict(loans.X[held_out])
print(gap(loans.y[held_out], decided, race[held_out]))
group_rates(loans.y[held_out], decided, race[held_out], metrics=["selection_rate", "accuracy"])

# %% [markdown]
# Every rate comes with its count and its interval. The gap's interval allows for the fact that
# the two groups farthest apart were chosen by looking.

# %% [markdown]
# ## Fair training: `ReductionsWrapper`
#
# The same pipeline, wrapped. The bound is between *any two* groups; a quarter of the training
# rows steers the mixture.

# %%
fair = ReductionsWrapper(
    make_pipeline(SimpleImputer(), StandardScaler(), LogisticRegression(max_iter=1000)),
    DemographicParity(difference_bound=0.05),
    validation_fraction=0.25,
    random_state=0,
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore", ConstraintNotMetWarning)
    fair.fit(loans.X[~held_out], loans.y[~held_out], sensitive_features=race[~held_out])
fair.history_[["error", "gap", "best_gap"]].round(3)

# %% [markdown]
# ## What was achieved
#
# On the rows that took part in nothing. With so few Hispanic applicants no honest verdict is
# possible: the report says how many rows it would take.

# %%
report = fair.evaluate(loans.X[held_out], loans.y[held_out], sensitive_features=race[held_out])
print(report)

# %%
baseline = fairness_report(loans.y[held_out], decided, race[held_out], difference_bound=0.05)
pd.concat({"baseline": baseline.frame(), "fair": report.frame()}).droplevel(1).T
