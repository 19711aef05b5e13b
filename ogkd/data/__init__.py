"""Images and labels: the catalogue, folders of one's own, splits by patient, few-shot sampling."""
