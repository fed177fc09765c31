"""Google's side: the token exchange and service account impersonation."""
