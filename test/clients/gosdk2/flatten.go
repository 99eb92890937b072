package main

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
)

// sets are the lists whose order the provider does not know: they are sets in its schema.
var sets = []string{
	"Backends", "CertificateAuthorityArns", "Exact", "GrpcRetryEvents", "Headers", "HttpRetryEvents", "Metadata", "Ports", "QueryParameters",
	"TcpRetryEvents", "WeightedTargets",
}

// flatten returns a spec as Terraform's state knows it, in which the number 0, the empty
// text, false and the empty list are the same as nothing, while an empty block is there.
func flatten(spec any) any {
	return flattenValue("", reflect.ValueOf(spec))
}

func flattenValue(name string, v reflect.Value) any {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return nil
		}
		if _, member, ok := strings.Cut(reflect.Indirect(v.Elem()).Type().Name(), "Member"); ok && v.Kind() == reflect.Interface {
			// A union is a block with the block of its member.
			return map[string]any{member: flattenValue(member, reflect.Indirect(v.Elem()).FieldByName("Value"))}
		}
		return flattenValue(name, v.Elem())
	case reflect.Struct:
		block := map[string]any{}
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if value := flattenValue(field.Name, v.Field(i)); field.IsExported() && value != nil {
				block[field.Name] = value
			}
		}
		return block
	case reflect.Slice:
		if v.Len() == 0 {
			return nil
		}
		var all []any
		for i := range v.Len() {
			all = append(all, flattenValue("", v.Index(i)))
		}
		if slices.Contains(sets, name) {
			slices.SortFunc(all, func(a, b any) int { return strings.Compare(text(a), text(b)) })
		}
		return all
	default:
		if v.IsZero() {
			return nil
		}
		return v.Interface()
	}
}

func text(value any) string {
	return string(must(json.Marshal(value)))
}

// fill completes what is configured with what the provider takes from the state where the
// configuration says nothing: the port of a health check, and the spec of a mesh.
func fill(config, state any) any {
	block, ok := config.(map[string]any)
	if !ok {
		if all, ok := config.([]any); ok {
			have, _ := state.([]any)
			for i := range all {
				if i < len(have) {
					all[i] = fill(all[i], have[i])
				}
			}
		}
		return config
	}
	have, _ := state.(map[string]any)
	for name, value := range block {
		block[name] = fill(value, have[name])
	}
	if check, ok := block["HealthCheck"].(map[string]any); ok && check["Port"] == nil {
		if known, ok := have["HealthCheck"].(map[string]any); ok {
			check["Port"] = known["Port"]
		}
	}
	return block
}
