"""What evaluator actors do, and how points reach them."""
