"""Reading, writing and converting of frozen weights and prompts."""
