"""Memory and time of a study's runs on devices that need not be here."""
