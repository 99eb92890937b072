package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// genErrors writes the names and HTTP statuses of the model's exceptions.
func genErrors(m *model) string {
	var b, status strings.Builder
	b.WriteString(header + "package mesh\n\nimport \"net/http\"\n\n// The exceptions of the App Mesh API.\nconst (\n")
	for _, name := range slices.Sorted(maps.Keys(m.Shapes)) {
		s := m.Shapes[name]
		if !s.Exception {
			continue
		}
		fmt.Fprintf(&b, "\tErr%s Code = %q\n", strings.TrimSuffix(name, "Exception"), name)
		fmt.Fprintf(&status, "\tErr%s: %s,\n", strings.TrimSuffix(name, "Exception"), statusConst(s.Error.Status))
	}
	b.WriteString(")\n\n// statuses holds the HTTP status of each exception.\nvar statuses = map[Code]int{\n")
	b.WriteString(status.String() + "}\n")
	return b.String()
}

func statusConst(code int) string {
	names := map[int]string{
		400: "StatusBadRequest", 403: "StatusForbidden", 404: "StatusNotFound", 409: "StatusConflict",
		429: "StatusTooManyRequests", 500: "StatusInternalServerError", 503: "StatusServiceUnavailable",
	}
	name, ok := names[code]
	if !ok {
		panic(fmt.Sprintf("gen: no name for HTTP status %d", code))
	}
	return "http." + name
}
