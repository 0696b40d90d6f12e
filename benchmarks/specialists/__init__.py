"""What specialists cost, beside what the paper and its predecessors do: a mixture of experts, gradient descent."""
