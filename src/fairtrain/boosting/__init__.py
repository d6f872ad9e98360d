"""The same constraints inside one run of stock XGBoost or LightGBM."""
