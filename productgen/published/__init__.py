"""Networks with published weights: their files, and how each of them sees pictures."""
