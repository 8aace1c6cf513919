"""The advice: what is right for each sysctl, and what to do about what a host shows at this moment."""
