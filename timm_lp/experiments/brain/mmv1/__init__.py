"""The activity of neurons in V1 of freely moving mice, predicted from what they see and do (Table 5)."""
