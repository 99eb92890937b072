package mesh

import (
	"fmt"
	"net/http"
)

// Code is the name of an exception of the API, for example "NotFoundException".
type Code string

// Status returns the HTTP status that goes with the code.
func (c Code) Status() int {
	if s, ok := statuses[c]; ok {
		return s
	}
	if s, ok := frontDoorStatuses[c]; ok {
		return s
	}
	return http.StatusInternalServerError
}

// Error is a refusal that the caller is told of. Any other error is an internal
// one: logged, and not shown.
type Error struct {
	Code    Code
	Message string
}

// Error returns code and message.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Errorf returns an Error.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Codes that the App Mesh model does not have: what AWS's front door answers before
// the service is reached, and what the HTTP layer itself refuses.
const (
	ErrAccessDenied          Code = "AccessDeniedException"
	ErrExpiredToken          Code = "ExpiredTokenException"
	ErrIncompleteSignature   Code = "IncompleteSignatureException"
	ErrInvalidSignature      Code = "InvalidSignatureException"
	ErrMissingAuthentication Code = "MissingAuthenticationTokenException"
	ErrUnrecognizedClient    Code = "UnrecognizedClientException"
	ErrRequestTooLarge       Code = "RequestEntityTooLargeException"
	ErrUnknownOperation      Code = "UnknownOperationException"
)

var frontDoorStatuses = map[Code]int{
	ErrAccessDenied:          http.StatusForbidden,
	ErrExpiredToken:          http.StatusForbidden,
	ErrIncompleteSignature:   http.StatusForbidden,
	ErrInvalidSignature:      http.StatusForbidden,
	ErrMissingAuthentication: http.StatusForbidden,
	ErrUnrecognizedClient:    http.StatusForbidden,
	ErrRequestTooLarge:       http.StatusRequestEntityTooLarge,
	ErrUnknownOperation:      http.StatusNotFound,
}
