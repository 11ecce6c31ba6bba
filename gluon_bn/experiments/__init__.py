"""The chapter's claims as experiments: functions that measure, for the notebooks to tell and the tests to assert."""
