"""What tests share: the factory of DICOM files, cohorts, the oracle, and lists of real files."""
