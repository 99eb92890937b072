package mesh

import "encoding/json"

// CheckCloudMap checks the input of an operation of the Cloud Map API, a structure of its
// service model such as "RegisterInstanceRequest", against the model's limits. It returns
// the document without members that the model does not know and without nulls, or every
// breach of a limit. Rules beyond the model are not held here.
func CheckCloudMap(shape string, raw []byte) (json.RawMessage, Violations) {
	clean, w, err := walk(cloudMapShapes, "", field{typ: structureType, shape: shape}, raw)
	switch {
	case err != nil:
		return nil, Violations{{Path: "the request body", Message: err.Error()}}
	case len(w.bad) > 0:
		for i := range w.bad {
			if w.bad[i].Path == "" {
				w.bad[i].Path = "the request body"
			}
		}
		return nil, w.bad
	}
	return marshal(clean), nil
}
