"""What Google's services share: tokens, IAM's decision, principals, errors, the audit log."""
