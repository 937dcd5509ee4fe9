"""Fine-tuning: one loop for every model, folds that keep equal things together, scores beside baselines."""
