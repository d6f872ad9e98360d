"""The training loop: epochs, steps of weights and multipliers, what is measured, who watches."""
