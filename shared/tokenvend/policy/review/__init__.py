"""The operator's tools on a policy; a function never loads them."""
