package mesh

// fillDefaults writes back the two defaults that App Mesh writes back: a mesh's
// egress filter and a health check's port. Nothing else is ever added to a spec.
func fillDefaults(k Kind, spec map[string]any) {
	switch k {
	case KindMesh:
		if spec["egressFilter"] == nil {
			spec["egressFilter"] = map[string]any{"type": "DROP_ALL"}
		}
	case KindVirtualNode, KindVirtualGateway:
		listeners, _ := spec["listeners"].([]any)
		for _, l := range listeners {
			listener := l.(map[string]any)
			if hc, ok := listener["healthCheck"].(map[string]any); ok && hc["port"] == nil {
				hc["port"] = listener["portMapping"].(map[string]any)["port"]
			}
		}
	}
}

// checkRules reports what the model's limits cannot: rules between the fields of
// one spec.
func checkRules(path string, spec any) Violations {
	return nil
}
