/* The model's memory: created and filled once, then read by steps. The caller checks sizes and values. */
#include "native.h"

#include <stdlib.h>

/* Rows have room for whole tiles, and begin an odd number of cache lines apart: with a power of two between them, the
 * inputs of the rows of a product would all want the same few places of the first cache. */
static size_t padded(size_t size) { return (size + TILE - 1) / TILE * TILE + LANES; }

static size_t place(Matrix *matrix, uint8_t *memory, size_t at) {
  matrix->data = memory ? memory + at : NULL;
  return at + matrix_bytes(matrix);
}

/* `held`: of the matrices of each layer in the order of `Layer`, then of the head and the embedding. */
static void shape_layers(Model *model, const int32_t *held) {
  const Config *c = &model->config;
  const int gate_up = (c->intermediate + LANES - 1) / LANES * TILE;
  for (int i = 0; i < c->layers; i++, held += 4) {
    Layer *layer = &model->layers[i];
    matrix_shape(&layer->qkv, (c->heads + 2 * c->kv_heads) * c->head_dim, c->hidden, (Held)held[0]);
    matrix_shape(&layer->output, c->hidden, c->heads * c->head_dim, (Held)held[1]);
    matrix_shape(&layer->gate_up, gate_up, c->hidden, (Held)held[2]);
    matrix_shape(&layer->down, c->hidden, c->intermediate, (Held)held[3]);
  }
  matrix_shape(&model->head, c->vocab, c->hidden, (Held)held[0]);
  model->embedding_held = (Held)held[1];
}

/* In the order in which a step reads them. */
static size_t place_all(Model *model, uint8_t *memory) {
  size_t at = 0;
  for (int i = 0; i < model->config.layers; i++) {
    Layer *layer = &model->layers[i];
    at = place(&layer->qkv, memory, at);
    at = place(&layer->output, memory, at);
    at = place(&layer->gate_up, memory, at);
    at = place(&layer->down, memory, at);
  }
  return place(&model->head, memory, at);
}

static size_t keys_bytes(const Model *model) {
  return (size_t)model->config.layers * model->layer_keys * sizeof(float);
}
static size_t values_bytes(const Model *model) {
  return (size_t)model->config.layers * model->layer_values * sizeof(float);
}

static void release_rows(Model *model) {
  free(model->x);
  free(model->normed);
  free(model->qkv);
  free(model->attended);
  free(model->gated);
  free(model->quantised.q);
  free(model->quantised.scales);
  free(model->quantised.offsets);
  free(model->tables);
  free(model->starts);
  model->x = model->normed = model->qkv = model->attended = model->gated = model->quantised.scales = NULL;
  model->quantised.q = NULL;
  model->quantised.offsets = NULL;
  model->tables = NULL;
  model->starts = NULL;
  model->capacity = 0;
}

void model_destroy(Model *model) {
  if (!model) return;
  pool_destroy(model->pool);
  for (int i = 0; model->layers && i < model->config.layers; i++) {
    Layer *layer = &model->layers[i];
    free(layer->qkv.bias);
    free(layer->output.bias);
    free(layer->gate_up.bias);
    free(layer->down.bias);
    free(layer->input_norm);
    free(layer->post_norm);
    free(layer->query_norm);
    free(layer->key_norm);
  }
  release_rows(model);
  free(model->layers);
  free(model->head.bias);
  free(model->final_norm);
  free(model->cos);
  free(model->sin);
  free(model->scratch);
  memory_destroy(model->weights, model->weights_bytes);
  memory_destroy(model->keys, keys_bytes(model));
  memory_destroy(model->values, values_bytes(model));
  free(model);
}

size_t model_weights_bytes(const Model *model) { return model->weights_bytes; }

size_t model_kv_bytes(const Model *model) { return keys_bytes(model) + values_bytes(model); }

/* 0: the system does not do such a thing, or has not enough. */
int model_populate_kv(const Model *model) {
  return memory_populate(model->keys, keys_bytes(model)) && memory_populate(model->values, values_bytes(model));
}

/* NULL: no memory. */
Model *model_create(const Config *config, const int32_t *held) {
  Model *model = calloc(1, sizeof *model);
  if (!model) return NULL;
  const Config *c = config;
  model->config = *c;
  model->padded_dim = (c->head_dim + LANES - 1) / LANES * LANES;
  model->layer_keys = (size_t)c->blocks * (size_t)c->kv_heads * (size_t)c->head_dim * BLOCK_TOKENS;
  model->layer_values = (size_t)c->blocks * (size_t)c->kv_heads * (size_t)model->padded_dim * BLOCK_TOKENS;
  model->hidden_stride = padded((size_t)c->hidden);
  model->qkv_stride = padded((size_t)(c->heads + 2 * c->kv_heads) * (size_t)c->head_dim);
  model->attended_stride = padded((size_t)c->heads * (size_t)c->head_dim);
  model->gated_stride = padded((size_t)c->intermediate);
  model->scratch_stride = attention_scratch(c->heads, c->kv_heads, c->head_dim);
  model->layers = calloc((size_t)c->layers, sizeof *model->layers);
  model->pool = pool_create(c->threads);
  if (model->layers) {
    shape_layers(model, held);
    model->weights_bytes = place_all(model, NULL);
    model->weights = memory_create(model->weights_bytes);
    if (model->weights) place_all(model, model->weights);
  }
  model->keys = memory_create(keys_bytes(model));
  model->values = memory_create(values_bytes(model));
  model->scratch = malloc((size_t)c->threads * model->scratch_stride * sizeof(float));
  if (!model->layers || !model->pool || !model->weights || !model->keys || !model->values || !model->scratch) {
    model_destroy(model);
    return NULL;
  }
  return model;
}

static void *room(size_t rows, size_t bytes) { return calloc(rows, bytes); }

int model_reserve(Model *model, int rows) {
  if (rows < 1) rows = 1;
  if (rows <= model->capacity) return 0;
  release_rows(model);
  const Config *c = &model->config;
  const size_t n = (size_t)rows;
  size_t widest = (size_t)c->hidden;
  if ((size_t)c->heads * (size_t)c->head_dim > widest) widest = (size_t)c->heads * (size_t)c->head_dim;
  if ((size_t)c->intermediate > widest) widest = (size_t)c->intermediate;
  const size_t groups = (widest + GROUP - 1) / GROUP;
  model->x = room(n, model->hidden_stride * sizeof(float));
  model->normed = room(n, model->hidden_stride * sizeof(float));
  model->qkv = room(n, model->qkv_stride * sizeof(float));
  model->attended = room(n, model->attended_stride * sizeof(float));
  model->gated = room(n, model->gated_stride * sizeof(float));
  model->quantised.q = room(n, groups * GROUP * sizeof(Quantised));
  model->quantised.scales = room(n, groups * sizeof(float));
  model->quantised.offsets = room(n, groups * sizeof(int32_t));
  model->tables = room(n, sizeof *model->tables);
  model->starts = room(n + 1, sizeof *model->starts);
  if (!model->x || !model->normed || !model->qkv || !model->attended || !model->gated || !model->quantised.q ||
      !model->quantised.scales || !model->quantised.offsets || !model->tables || !model->starts) {
    release_rows(model);
    return 1;
  }
  model->capacity = rows;
  return 0;
}

/* Numbers that library.py has too. */
typedef enum {
  INPUT_NORM, QUERY, KEY, VALUE, QUERY_BIAS, KEY_BIAS, VALUE_BIAS, QUERY_NORM, KEY_NORM, OUTPUT, OUTPUT_BIAS,
  POST_NORM, GATE_WEIGHT, UP_WEIGHT, GATE_BIAS, UP_BIAS, DOWN, DOWN_BIAS, FINAL_NORM, HEAD, COS, SIN, EMBEDDING
} Kind;

static int vector(float **place, const float *data, size_t size) {
  free(*place);
  *place = malloc(size * sizeof(float));
  if (!*place) return 1;
  memcpy(*place, data, size * sizeof(float));
  return 0;
}

static int bias(Matrix *matrix, const float *data, int rows, int first, int stride) {
  if (!matrix->bias) matrix->bias = calloc((size_t)matrix->tiles * TILE, sizeof(float));
  if (!matrix->bias) return 1;
  matrix_pack_bias(matrix, data, rows, first, stride);
  return 0;
}

static int weight(Matrix *matrix, Pool *pool, const float *data, int rows, int first, int stride) {
  matrix_pack(matrix, pool, data, rows, first, stride);
  return 0;
}

/* Takes in a weight, contiguous and float32, but for an embedding in bfloat16; only the embedding must outlive the call.
 * 0, or 1: no memory. */
int model_weight(Model *model, int32_t kind, int32_t index, const void *given) {
  const float *data = given;
  const Config *c = &model->config;
  Layer *layer = &model->layers[index];
  Pool *pool = model->pool;
  const int q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
  const size_t table = (size_t)c->positions * (size_t)(c->head_dim / 2);
  switch ((Kind)kind) {
    case INPUT_NORM: return vector(&layer->input_norm, data, (size_t)c->hidden);
    case QUERY: return weight(&layer->qkv, pool, data, q, 0, 1);
    case KEY: return weight(&layer->qkv, pool, data, kv, q, 1);
    case VALUE: return weight(&layer->qkv, pool, data, kv, q + kv, 1);
    case QUERY_BIAS: return bias(&layer->qkv, data, q, 0, 1);
    case KEY_BIAS: return bias(&layer->qkv, data, kv, q, 1);
    case VALUE_BIAS: return bias(&layer->qkv, data, kv, q + kv, 1);
    case QUERY_NORM: return vector(&layer->query_norm, data, (size_t)c->head_dim);
    case KEY_NORM: return vector(&layer->key_norm, data, (size_t)c->head_dim);
    case OUTPUT: return weight(&layer->output, pool, data, c->hidden, 0, 1);
    case OUTPUT_BIAS: return bias(&layer->output, data, c->hidden, 0, 1);
    case POST_NORM: return vector(&layer->post_norm, data, (size_t)c->hidden);
    case GATE_WEIGHT: return weight(&layer->gate_up, pool, data, c->intermediate, 0, 2);
    case UP_WEIGHT: return weight(&layer->gate_up, pool, data, c->intermediate, LANES, 2);
    case GATE_BIAS: return bias(&layer->gate_up, data, c->intermediate, 0, 2);
    case UP_BIAS: return bias(&layer->gate_up, data, c->intermediate, LANES, 2);
    case DOWN: return weight(&layer->down, pool, data, c->hidden, 0, 1);
    case DOWN_BIAS: return bias(&layer->down, data, c->hidden, 0, 1);
    case FINAL_NORM: return vector(&model->final_norm, data, (size_t)c->hidden);
    case HEAD: return weight(&model->head, pool, data, c->vocab, 0, 1);
    case COS: return vector(&model->cos, data, table);
    case SIN: return vector(&model->sin, data, table);
    case EMBEDDING: model->embedding = given; return 0;
  }
  return 0;
}
