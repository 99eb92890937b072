package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/appmesh"
	"github.com/aws/smithy-go"
)

// identity describes a mesh, and tries to delete it, as whoever the environment says.
func identity(ctx context.Context, settings []byte) error {
	var in struct{ Mesh string }
	if err := json.Unmarshal(settings, &in); err != nil {
		return fmt.Errorf("decoding the settings: %w", err)
	}
	cfg, err := config.LoadDefaultConfig(ctx)
	if err != nil {
		return err
	}
	c := appmesh.NewFromConfig(cfg)
	out, err := c.DescribeMesh(ctx, &appmesh.DescribeMeshInput{MeshName: aws.String(in.Mesh)})
	if err != nil {
		return err
	}
	_, err = c.DeleteMesh(ctx, &appmesh.DeleteMeshInput{MeshName: aws.String(in.Mesh)})
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		return fmt.Errorf("deleting the mesh ended with: %w", err)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]string{"mesh": aws.ToString(out.Mesh.MeshName), "refused": refused.ErrorCode()})
}
