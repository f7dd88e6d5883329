"""Many runs side by side: tables over seeds and learning curves."""
